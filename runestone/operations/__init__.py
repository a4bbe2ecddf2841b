"""The running node as others see it: what there is to know, and what an operator may do."""
