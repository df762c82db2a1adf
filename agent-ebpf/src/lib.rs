//! The ABI shared by the probes and the agent.
#![no_std]
