"""What gateways of detector streams share: sockets, decoders, simulated senders.

Stream V2 is here since several senders speak it. Needs the extra ``zmq``; each gateway
imports the modules that it needs.
"""
