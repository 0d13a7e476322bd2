"""Stages beside published libraries; mlfinpy pins numpy < 2, so it cannot be one of them."""
