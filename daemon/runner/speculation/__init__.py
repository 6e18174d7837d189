"""Speculative decoding: draft lengths, drafters, and the costs and acceptance behind them."""
