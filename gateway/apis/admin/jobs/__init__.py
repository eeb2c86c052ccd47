"""`/v1/jobs`: the jobs that wait, run or died, one job's life, its end by an operator, its stream read again."""
