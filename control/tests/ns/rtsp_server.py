"""An RTSP server of two live tracks, sound and pictures: rtsp_server.py ADDRESS PORT"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

TRACKS = (
    "( audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay0 pt=0"
    " videotestsrc is-live=true ! video/x-raw,format=I420,width=64,height=48,framerate=20/1 ! jpegenc"
    " ! rtpjpegpay name=pay1 pt=26 )"
)

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address(sys.argv[1])
server.set_service(sys.argv[2])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(TRACKS)
server.get_mount_points().add_factory("/live", factory)
if server.attach(None) == 0:
    sys.exit("cannot listen")
GLib.MainLoop().run()
