"""The parts that several measurements of the lab share."""
