"""`millstream chaos`: clients that check every token while the cluster's parts die."""
