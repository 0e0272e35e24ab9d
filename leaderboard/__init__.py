"""The board. Not built yet; `bench.leaderboard(dataset=...)` gives its rows as a pandas frame."""
