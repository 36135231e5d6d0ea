"""Tell ICAT, the catalogue of a facility, about datasets that are closed.

`mirror` translates between keys of ICAT and NeXus trees, `parameters` finds what is
said of a dataset, both pure; `dataset` reads it from the files, `message` makes the
XML, `outbox` keeps what is unsent and notes what is sent, `stomp` talks to the broker,
`send` and `watch` put them together. No module here knows Redis: trouble with a broker
never reaches the writer.
"""
