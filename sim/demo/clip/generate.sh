#!/bin/sh
# Makes video.ivf and audio.ogg: six seconds that loop. Needs Debian's ffmpeg; the files are committed, so nobody else does.
# The picture is ffmpeg's own test pattern (it moves and shows a running clock), the sound a soft tone with a beep each second.
# A keyframe every second: a viewer who joins, or a player that is asked for a keyframe, starts there.
# One Opus packet a page (-page_duration), so that a page can be sent as it is.
set -eu
cd "$(dirname "$0")"
seconds=6
ffmpeg -hide_banner -loglevel error -y \
	-f lavfi -i "testsrc2=size=640x360:rate=30:duration=$seconds" \
	-c:v libvpx -b:v 520k -minrate 420k -maxrate 620k -bufsize 400k -g 30 -keyint_min 30 \
	-deadline good -cpu-used 1 -auto-alt-ref 0 -lag-in-frames 0 -error-resilient 1 -threads 1 \
	-flags +bitexact -fflags +bitexact video.ivf
ffmpeg -hide_banner -loglevel error -y \
	-f lavfi -i "sine=frequency=220:beep_factor=4:sample_rate=48000:duration=$seconds" \
	-af "volume=0.4" -c:a libopus -b:a 32k -vbr off -frame_duration 20 -ac 1 -page_duration 20000 \
	-flags +bitexact -fflags +bitexact audio.ogg
test "$(cat video.ivf audio.ogg | wc -c)" -le 524288 || { echo "the clip is larger than 512 KiB" >&2; exit 1; }
