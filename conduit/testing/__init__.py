"""What implementers and applications test with: contract suites and fakes that speak real protocols."""
