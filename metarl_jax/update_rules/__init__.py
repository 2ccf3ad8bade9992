"""Rules by which an agent learns: what it is told to change into, after what it did."""
