-- with giving_back
-- The holder gives back jobs it was asked for, without counting an attempt: they go on later, from their next token.
-- ARGV: worker, then id and lease of each job
-- Returns for each job {queued | fenced}
return give_back(ARGV[1])
