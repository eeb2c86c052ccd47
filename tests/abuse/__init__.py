"""What a hostile tenant, page or neighbour may try, against running gateways and clusters."""
