"""Every call into llama.cpp, each with its rule from GUIDE.md; `interface` is the seam."""
