"""The board: a Streamlit page over the store, read-only. ``bench leaderboard`` starts it."""
