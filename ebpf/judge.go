package ebpf

import "fmt"

// Judge says what the filter would do with one Ethernet frame under rules: by the twin (ModeGo), or by the kernel's
// program in a test run that attaches nothing (ModeXDP; needs privileges and a frame of 14 to about 3,500 bytes).
// An error that wraps ErrUnsupported means that this machine cannot run the program.
func Judge(rules Rules, mode string, packet []byte) (Verdict, error) {
	t, err := Compile(rules)
	if err != nil {
		return Verdict{}, err
	}
	switch mode {
	case ModeGo:
		return t.Frame(packet), nil
	case ModeXDP:
		return judgeXDP(t, packet)
	}
	return Verdict{}, fmt.Errorf("mode is %q, not xdp or go", mode)
}
