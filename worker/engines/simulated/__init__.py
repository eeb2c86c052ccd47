"""An engine without a model, for load, fault and client tests."""
