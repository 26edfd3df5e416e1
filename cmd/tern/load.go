package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ternmesh/tern/bench/load"
)

// loadCommand puts real WebRTC clients on a WHIP and WHEP server, Tern's or another.
func loadCommand() *cobra.Command {
	var c load.Config
	var token, jsonFile string
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Put WebRTC publishers and viewers on a WHIP and WHEP server, and measure what they get",
		Long: "Put WebRTC publishers and viewers on a WHIP and WHEP server, and measure what they get: one-way latency, loss, joins,\n" +
			"and with --pid the processor time of the server for each packet that viewers received.\n\n" +
			"With several publishers {n} in the URLs stands for the number of a stream, from 0; viewers spread evenly over them.\n" +
			"Clients of a node that is drained move to another one when it asks them to. An interrupt ends the window early.\n\n" +
			"The defaults are one publisher with video of 150 packets/s in bursts of 5, and audio of 50 packets/s.",
		Example: "  tern load --viewers 50 --whip http://127.0.0.1:8080/whip/demo/room --whep http://127.0.0.1:8080/whep/demo/room --token T --pid 4711",
		Args:    args(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.PublishToken == "" {
				c.PublishToken = token
			}
			if c.ViewToken == "" {
				c.ViewToken = token
			}
			if err := c.Validate(); err != nil {
				return usageError{err}
			}
			if err := writable("", jsonFile); err != nil {
				return usageError{err}
			}
			r, err := load.Run(cmd.Context(), c)
			if err != nil {
				return err
			}
			if jsonFile != "-" {
				fmt.Fprint(cmd.OutOrStdout(), r.Summary())
			}
			return writeUnlessEmpty(jsonFile, r.WriteJSON)
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Publishers, "publishers", 1, "publishers, one stream each")
	f.IntVar(&c.Viewers, "viewers", 1, "viewers, spread over the streams")
	f.StringVar(&c.WHIP, "whip", "", "WHIP endpoint; {n} is the number of the stream")
	f.StringVar(&c.WHEP, "whep", "", "WHEP endpoint; {n} is the number of the stream")
	f.StringVar(&token, "token", "", "bearer token of all clients")
	f.StringVar(&c.PublishToken, "publish-token", "", "bearer token of publishers, if it is another")
	f.StringVar(&c.ViewToken, "view-token", "", "bearer token of viewers, if it is another")
	f.IntVar(&c.Size, "size", 1188, "payload bytes of a video packet")
	f.Float64Var(&c.Rate, "rate", 150, "video packets a second of each publisher")
	f.IntVar(&c.Burst, "burst", 5, "packets sent at once, like a frame")
	f.Float64Var(&c.Audio, "audio", 50, "audio packets a second of each publisher")
	f.DurationVar(&c.Warmup, "warmup", 2*time.Second, "time between the last join and the window")
	f.DurationVar(&c.For, "for", 10*time.Second, "length of the window")
	f.IntVar(&c.Joins, "joins", 0, "viewers more that join evenly over the window, and leave as soon as media can flow")
	f.IntVar(&c.PID, "pid", 0, "process whose processor time and memory are measured: the server's, on this machine")
	f.BoolVar(&c.Headers, "headers", false, "clients read RTP headers alone, stamped by the kernel: many more of them, and latencies without their own waiting")
	f.StringVar(&jsonFile, "json", "", "write the result as JSON to this file (-: standard output)")
	return cmd
}
