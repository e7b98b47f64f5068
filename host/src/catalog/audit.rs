//! The audit log: a table of the store, with a ceiling, and a share of it for each owner, so that a tenant who changes
//! something a thousand times pushes its own lines out and nobody else's.

use std::collections::{BTreeSet, HashMap};
use std::io;

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};

use super::Who;
use super::record::AuditLine;
use crate::limits;

/// Changes by their number, as JSON.
pub(super) const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");

/// The numbers of the lines that are there, of each owner of handlers. None is the operator.
#[derive(Default)]
pub(super) struct Numbers {
    all: BTreeSet<u64>,
    of_owner: HashMap<Option<String>, BTreeSet<u64>>,
}

impl Numbers {
    pub(super) fn read(database: &Database) -> Result<Self, redb::Error> {
        let mut numbers = Self::default();
        for row in database.begin_read()?.open_table(AUDIT)?.iter()? {
            let (number, json) = row?;
            let line: AuditLine = serde_json::from_slice(json.value()).map_err(io::Error::from)?;
            numbers.insert(number.value(), line.tenant);
        }
        Ok(numbers)
    }

    /// Adds a line, and drops the oldest if there are too many: of its owner, if those are more than a share. They are of
    /// the transaction: if it fails, read the numbers again.
    pub(super) fn note(
        &mut self,
        transaction: &WriteTransaction,
        change: &AuditLine,
    ) -> Result<(), redb::Error> {
        let mut table = transaction.open_table(AUDIT)?;
        let number = self.all.last().map_or(0, |last| last + 1);
        let json = serde_json::to_vec(change).map_err(io::Error::from)?;
        table.insert(number, json.as_slice())?;
        self.insert(number, change.tenant.clone());
        if self.all.len() > limits::AUDIT_LINES
            && let Some(oldest) = self.drop_oldest(&change.tenant)
        {
            table.remove(oldest)?;
        }
        Ok(())
    }

    fn insert(&mut self, number: u64, owner: Option<String>) {
        self.all.insert(number);
        self.of_owner.entry(owner).or_default().insert(number);
    }

    fn drop_oldest(&mut self, owner: &Option<String>) -> Option<u64> {
        let own = self.of_owner.get(owner);
        let own = own.filter(|own| own.len() > limits::AUDIT_LINES / limits::SHARE);
        let oldest = *own.unwrap_or(&self.all).first()?;
        self.all.remove(&oldest);
        self.of_owner.retain(|_, numbers| {
            numbers.remove(&oldest);
            !numbers.is_empty()
        });
        Some(oldest)
    }
}

/// The latest lines from before a time that somebody may see, the last one first.
pub(super) fn latest(
    database: &Database,
    numbers: &Numbers,
    most: usize,
    before: Option<jiff::Timestamp>,
    who: &Who,
) -> Result<Vec<AuditLine>, redb::Error> {
    let seen = match who.tenant() {
        None => Some(&numbers.all),
        Some(tenant) => numbers.of_owner.get(&Some(tenant.to_string())),
    };
    let table = database.begin_read()?.open_table(AUDIT)?;
    let mut lines = Vec::new();
    for number in seen.into_iter().flatten().rev() {
        if lines.len() == most {
            break;
        }
        let Some(json) = table.get(number)? else {
            continue;
        };
        let line: AuditLine = serde_json::from_slice(json.value()).map_err(io::Error::from)?;
        let at = line.at.parse::<jiff::Timestamp>();
        if before.is_none_or(|before| at.is_ok_and(|at| at < before)) {
            lines.push(line);
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_changes_much_pushes_out_its_own_lines_and_nobody_elses() {
        let mut numbers = Numbers::default();
        let owner = |tenant: &str| Some(tenant.to_owned()).filter(|it| it != "operator");
        let add = |numbers: &mut Numbers, number, tenant: &str| {
            numbers.insert(number, owner(tenant));
            if numbers.all.len() > limits::AUDIT_LINES {
                numbers.drop_oldest(&owner(tenant));
            }
        };
        for number in 0..10 {
            add(
                &mut numbers,
                number,
                ["operator", "beta"][number as usize % 2],
            );
        }
        let most = limits::AUDIT_LINES as u64;
        for number in 10..3 * most {
            add(&mut numbers, number, "acme");
        }
        assert_eq!(numbers.all.len(), limits::AUDIT_LINES);
        assert_eq!(numbers.of_owner[&None].len(), 5);
        assert_eq!(numbers.of_owner[&owner("beta")].len(), 5);
        // Whoever has no more than a share takes the place of the oldest of all.
        add(&mut numbers, 3 * most, "beta");
        assert_eq!(numbers.of_owner[&None].len(), 4);
        assert_eq!(numbers.of_owner[&owner("beta")].len(), 6);
    }
}
