//! The texts of RTSP (RFC 2326).

use super::{Step, View};
use std::fmt::Write as _;

pub(super) fn write(step: Step, view: &View, out: &mut String) {
    let Step::Cycle(step) = step else { return };
    let (server, port) = view.server;
    let number = 3 * (view.cycle % 100_000) + 1 + step as u32 / 2;
    let id = format!("{:08x}", view.session.wrapping_mul(0x9e37_79b9) ^ view.cycle);
    let (data, server_data) = (view.data, view.server_data);
    let _ = match step {
        0 => write!(
            out,
            "SETUP rtsp://{server}:{port}/films/film-{}/track1 RTSP/1.0\r\nCSeq: {number}\r\nUser-Agent: Player/1.8\r\n\
             Transport: RTP/AVP/UDP;unicast;client_port={data}-{}\r\n\r\n",
            view.cycle % 4,
            data.wrapping_add(1)
        ),
        1 => write!(
            out,
            "RTSP/1.0 200 OK\r\nCSeq: {number}\r\nServer: Films/2.1\r\nSession: {id};timeout=60\r\n\
             Transport: RTP/AVP/UDP;unicast;client_port={data}-{};server_port={server_data}-{};ssrc=5f0c21aa\r\n\r\n",
            data.wrapping_add(1),
            server_data + 1
        ),
        2 => write!(
            out,
            "PLAY rtsp://{server}:{port}/films/film-{}/ RTSP/1.0\r\nCSeq: {number}\r\nSession: {id}\r\nRange: npt=0.000-\r\n\r\n",
            view.cycle % 4
        ),
        3 => write!(
            out,
            "RTSP/1.0 200 OK\r\nCSeq: {number}\r\nServer: Films/2.1\r\nSession: {id};timeout=60\r\nRange: npt=0.000-\r\n\r\n"
        ),
        4 => write!(
            out,
            "TEARDOWN rtsp://{server}:{port}/films/film-{}/ RTSP/1.0\r\nCSeq: {number}\r\nSession: {id}\r\n\r\n",
            view.cycle % 4
        ),
        _ => write!(out, "RTSP/1.0 200 OK\r\nCSeq: {number}\r\nServer: Films/2.1\r\n\r\n"),
    };
}
