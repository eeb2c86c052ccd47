"""The only way to the jobs in Redis: submit, follow, replay, watch and cancel them; limits and waiting times."""
