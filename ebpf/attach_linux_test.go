package ebpf

import (
	"slices"
	"strings"
	"testing"
)

func TestDefaultRoutesNameTheirInterfaces(t *testing.T) {
	v4 := routes4(strings.NewReader("Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\nshort\n\n"))
	if !slices.Equal(v4, []string{"eth0"}) {
		t.Errorf("IPv4: %v", v4)
	}
	zero := strings.Repeat("0", 32)
	v6 := routes6(strings.NewReader(
		zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000400 1 0 00000003 eth2\n" +
			zero + " 00 " + zero + " 00 " + zero + " ffffffff 1 0 00200200 lo\n" +
			"20010db8" + zero[8:] + " 20 " + zero + " 00 " + zero + " 00000100 1 0 00000001 eth3\n"))
	if !slices.Equal(v6, []string{"eth2"}) {
		t.Errorf("IPv6: %v", v6)
	}
}

func TestExpandDropsRepetitions(t *testing.T) {
	if got, err := expand([]string{"a", "b", "a"}); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v, %v", got, err)
	}
}
