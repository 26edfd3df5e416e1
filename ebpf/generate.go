package ebpf

// The compiler is pinned to Debian's clang 14 so that the committed objects do not change from one machine to the
// next; continuous integration generates them again and fails on a difference. -mcpu=v3 (Linux 5.1) has 32-bit
// jumps, which keeps the program short. The include path is Debian's: the generic BPF target does not look there.
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel,bpfeb -tags linux -no-global-types filter bpf/filter.c -- -O2 -mcpu=v3 -Wall -Wextra -Wno-unused-parameter -Werror -I/usr/include/x86_64-linux-gnu
