"""Who people are and how much they may: providers, tokens, users, rates, CPU credit, the audit trail."""
