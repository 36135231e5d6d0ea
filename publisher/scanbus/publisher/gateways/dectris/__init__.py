"""DECTRIS detectors: their streams V1 and V2 over ZeroMQ become scans.

Needs the extra ``zmq``.
"""
