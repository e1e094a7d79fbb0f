"""The mathematics. One method, one file; no gRPC, no asyncio, no threads, no batching."""
