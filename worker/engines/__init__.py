"""What turns token ids into token ids: one folder per engine, and the contract they share."""
