"""Plan, train, predict, time, score and store: what happens behind ``bench run``."""
