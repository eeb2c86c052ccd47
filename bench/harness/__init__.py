"""What several measurements of the lab share."""
