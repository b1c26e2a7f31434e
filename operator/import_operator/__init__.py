"""The operator: makes ImportJobs, ImportProviders and WorkerPools true."""
