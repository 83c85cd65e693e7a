//! Records in one redb file.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use network::Network;

use super::{Change, Store, StoreError};
use crate::record::Record;

/// Id to record, as JSON: a person with any redb tool can read it.
const VMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("vms");
const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
/// Name to network, as JSON.
const NETWORKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("networks");
/// With networks, and with VMs that are Linux guests.
const FORMAT: u32 = 2;
/// Without them; what it holds is the same otherwise.
const FORMAT_BEFORE: u32 = 1;
/// All records together are small: the default of a gibibyte is for other uses.
const CACHE: usize = 8 << 20;

/// Records in one file.
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    /// Absent after a failure: a database that has seen an I/O error wants to be opened again.
    db: Option<Database>,
}

impl RedbStore {
    /// Opens the file, or makes it where there is none. One that is damaged is left as it is.
    ///
    /// # Errors
    /// [`StoreError`] where it is damaged, of a newer format, or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self {
            path: path.to_owned(),
            db: None,
        };
        store.guarded(Self::check)
    }

    /// Runs what reads a file that may hold anything. redb asserts about some of what stands in a file: such an assertion
    /// says that the file is damaged.
    fn guarded<T>(self, read: impl FnOnce(Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let file = self.file();
        catch_unwind(AssertUnwindSafe(|| read(self))).unwrap_or_else(|panic| {
            let reason = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("it cannot be read");
            Err(StoreError::Damaged {
                file,
                reason: reason.to_owned(),
            })
        })
    }

    fn check(self) -> Result<Self, StoreError> {
        let mut store = self;
        let path = &store.path.clone();
        match fs::metadata(path) {
            // redb would make a database of it, and say nothing.
            Ok(metadata) if metadata.len() == 0 => return Err(store.damaged("it is empty")),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(|e| store.failed("make", e))?;
            }
            Err(e) => return Err(store.failed("look at", e.into())),
        }
        // Its checksums are cheap to go through, once: records are few.
        let sound = store.database()?.check_integrity();
        match sound {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(file = %path.display(), "was not closed well and was mended");
            }
            Err(e) => return Err(store.failed("check", e.into())),
        }
        match read_format(store.database()?) {
            Ok(Some(FORMAT)) => Ok(store),
            Ok(Some(FORMAT_BEFORE)) => {
                let renewed = write(store.database()?, lay_out);
                match renewed {
                    Ok(()) => Ok(store),
                    Err(e) => Err(store.failed("renew", e)),
                }
            }
            Ok(Some(found)) => Err(StoreError::Format {
                file: store.file(),
                found,
                known: FORMAT,
            }),
            Ok(None) => Err(store.damaged("it does not say its format")),
            Err(e) => Err(store.failed("read", e)),
        }
    }

    fn database(&mut self) -> Result<&mut Database, StoreError> {
        let db = match self.db.take() {
            Some(db) => db,
            None => Database::builder()
                .set_cache_size(CACHE)
                .open(&self.path)
                .map_err(|e| self.failed("open", e.into()))?,
        };
        Ok(self.db.insert(db))
    }

    fn rows(
        &mut self,
        table: TableDefinition<'_, &str, &[u8]>,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let read = read_all(self.database()?, table);
        read.map_err(|e| self.failed("read", e))
    }

    fn file(&self) -> String {
        self.path.display().to_string()
    }

    fn damaged(&self, reason: impl ToString) -> StoreError {
        StoreError::Damaged {
            file: self.file(),
            reason: reason.to_string(),
        }
    }

    fn failed(&self, action: &'static str, error: redb::Error) -> StoreError {
        match error {
            redb::Error::Io(e) if is_full(&e) => StoreError::NoSpace { file: self.file() },
            // A file that is no redb file at all comes as this.
            redb::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => self.damaged(e),
            redb::Error::Corrupted(reason) => self.damaged(reason),
            redb::Error::RepairAborted => self.damaged("it cannot be mended"),
            e @ (redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => {
                self.damaged(e)
            }
            e => StoreError::Io {
                action,
                file: self.file(),
                reason: e.to_string(),
            },
        }
    }
}

impl Store for RedbStore {
    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        self.rows(VMS)?
            .into_iter()
            .map(|(id, json)| {
                let record: Record = serde_json::from_slice(&json)
                    .map_err(|e| self.damaged(format!("the record of VM {id}: {e}")))?;
                if record.id == id {
                    Ok(record)
                } else {
                    Err(self.damaged(format!("the record of VM {id} is that of {}", record.id)))
                }
            })
            .collect()
    }

    fn networks(&mut self) -> Result<Vec<Network>, StoreError> {
        self.rows(NETWORKS)?
            .into_iter()
            .map(|(name, json)| {
                serde_json::from_slice(&json)
                    .map_err(|e| self.damaged(format!("the record of network {name}: {e}")))
            })
            .collect()
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let written = write(self.database()?, |transaction| {
            let mut table = transaction.open_table(VMS)?;
            let mut networks = transaction.open_table(NETWORKS)?;
            for change in changes {
                match change {
                    Change::Put(record) => {
                        let json = serde_json::to_vec(record)
                            .map_err(|e| redb::Error::Io(io::Error::other(e)))?;
                        table.insert(record.id.as_str(), json.as_slice())?;
                    }
                    Change::Delete(id) => {
                        table.remove(id.as_str())?;
                    }
                    Change::PutNetwork(network) => {
                        let json = serde_json::to_vec(network)
                            .map_err(|e| redb::Error::Io(io::Error::other(e)))?;
                        networks.insert(network.name.as_str(), json.as_slice())?;
                    }
                    Change::DeleteNetwork(name) => {
                        networks.remove(name.as_str())?;
                    }
                }
            }
            Ok(())
        });
        written.map_err(|e| {
            self.db = None;
            self.failed("write", e)
        })
    }
}

/// Makes a file without records. It is complete before it has its name: one that is killed here leaves no half of a database.
fn create(path: &Path) -> Result<(), redb::Error> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let db = Database::builder().set_cache_size(CACHE).create(&beside)?;
    write(&db, lay_out)?;
    drop(db);
    fs::rename(&beside, path)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(dir)?.sync_all()?;
    Ok(())
}

/// Makes the tables that are not there, and says the format.
fn lay_out(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.open_table(VMS)?;
    transaction.open_table(NETWORKS)?;
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn write(
    db: &Database,
    change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    change(&transaction)?;
    transaction.commit()?;
    Ok(())
}

fn read_format(db: &Database) -> Result<Option<u32>, redb::Error> {
    let table = db.begin_read()?.open_table(META)?;
    Ok(table.get("format")?.map(|value| value.value()))
}

fn read_all(
    db: &Database,
    table: TableDefinition<'_, &str, &[u8]>,
) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let table = db.begin_read()?.open_table(table)?;
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (id, json) = row?;
        rows.push((id.value().to_owned(), json.value().to_owned()));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
