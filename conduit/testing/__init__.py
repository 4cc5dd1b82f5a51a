"""What implementers and applications test with: contract suites, and fakes of real protocols."""
