"""One model in service: its loops, heartbeats, preemption, and the models that come and go."""
