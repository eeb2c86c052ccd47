"""The parts that tests of several folders share: clusters, proxies, servers, waiting."""
