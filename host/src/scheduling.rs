//! Where pods may run: what the environment says, and over it what a cache's tags say.
