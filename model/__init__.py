"""A model of the protocol, for SPIN: `make model`, docs/explanation/model.md."""
