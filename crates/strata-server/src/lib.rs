//! The cache behind other builders: one store, many protocols.
