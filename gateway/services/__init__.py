"""The services that one gateway process hands to its routes: the cluster, the caller, model names, metrics, background
tasks."""
