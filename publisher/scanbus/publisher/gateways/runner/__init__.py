"""What all gateways of streams share: receive, queue, make scans, report.

A gateway translates the messages of its sender to `Message`; the runner does the rest.
"""
