// Package clip is the demo's test stream: six seconds of VP8 and Opus that ffmpeg made (generate.sh), embedded in the
// binary and played in a loop as RTP. It makes at least 150 packets a second, because the demo's figures are per packet and a
// handful would prove nothing; that is why its video packets are small.
//
// # Files, in packet order
//
//	clip.go    Load: the embedded files as frames
//	player.go  Player: frames of the loop as RTP packets at their times; pure
//	generate.sh, video.ivf, audio.ogg
//
// A Player belongs to one goroutine. It has no clock: the caller says how long it has played.
package clip

//go:generate ./generate.sh
