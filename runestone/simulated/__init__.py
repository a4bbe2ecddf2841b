"""The embedded providers behind ``serve --demo``: real HTTP servers on loopback that speak both wires, with faults that can be switched."""
