"""Pictures: of initializers over their laws, of singular values, of signals and of training."""
