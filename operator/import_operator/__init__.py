"""The operator: makes ImportJobs, ImportProviders, WorkerPools and ImportSchedules true."""
