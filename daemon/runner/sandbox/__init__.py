"""What a runner may do: it parses files of strangers in C++, so it gives up its rights first."""
