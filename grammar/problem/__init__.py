"""What a problem is: names, quantities, their graph, and the answer that they determine."""
