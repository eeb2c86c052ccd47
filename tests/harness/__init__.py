"""What tests of several rooms share: clusters, proxies, servers, waiting."""
