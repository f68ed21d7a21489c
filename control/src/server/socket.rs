//! The socket file: made, checked for a rival, and removed.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixSocket};

/// Who may connect: the owner and the group.
const MODE: u32 = 0o660;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// Why the control socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody answers on it.
    #[error("another posternd already listens on {}", .0.display())]
    Taken(PathBuf),
    /// Something else has the name.
    #[error("{} exists and is not a socket; name another one under [control]", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("cannot {action} the control socket {}: {source}", path.display())]
    System {
        /// What was tried.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// The server's thread cannot be started.
    #[error("cannot start the control server: {0}")]
    Thread(io::Error),
}

/// A listening socket's name. Dropping it removes the file, if it is still the same one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path, metadata: &Metadata) -> Self {
        Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = |m: &Metadata| m.dev() == self.device && m.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(|m| same(&m)) {
            let _ = fs::remove_file(&self.path); // nothing more can be done about it
        }
    }
}

/// Makes the socket and listens. Must run inside the runtime that will serve it.
///
/// The mode is set between bind and listen: nobody can connect before. Two daemons that start in the very same
/// instant over a stale file may both remove it; the service manager is to start one.
pub(super) fn listen(path: &Path) -> Result<(UnixListener, SocketFile), StartError> {
    let system = |action| move |source| StartError::System { action, path: path.to_owned(), source };
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        let builder = fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
        builder.map_err(system("create the directory of"))?;
    }
    clear(path)?;

    let socket = UnixSocket::new_stream().map_err(system("create"))?;
    socket.bind(path).map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => StartError::Taken(path.to_owned()),
        _ => system("create")(source),
    })?;
    let metadata = fs::symlink_metadata(path).map_err(system("find"))?;
    let file = SocketFile::of(path, &metadata);
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(system("set the mode of"))?;
    let listener = socket.listen(BACKLOG).map_err(system("listen on"))?;
    Ok((listener, file))
}

/// Removes what a dead daemon left; refuses if a live one answers.
fn clear(path: &Path) -> Result<(), StartError> {
    let system = |action| move |source| StartError::System { action, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system("find")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(StartError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(StartError::Taken(path.to_owned())),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Ok(()),
            ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(system("remove the stale")),
            _ => Err(system("probe")(error)),
        },
    }
}
