//! Rows that are inserted by the same statement, as one statement: to a PostgreSQL backend ten rows at once cost about as much
//! as three alone. Which rows they are does not matter to it, so those of several moves go together.

use std::collections::{HashMap, VecDeque};

use super::{Row, Statement, Value};
use crate::StoreError;

/// An `INSERT` of one row whose values are parameters, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Insert {
    head: String,
    values: String,
    tail: String,
    parameters: usize,
    /// Of each column that is given back: the parameter that it was, where it was one as it stands.
    returned: Option<Vec<Option<usize>>>,
}

impl Insert {
    /// `None` for any other statement. One that gives rows back must name among them the columns that tell its rows apart,
    /// or never be given two alike.
    pub(super) fn of(sql: &str) -> Option<Self> {
        let (head, rest) = sql.strip_prefix("INSERT INTO ")?.split_once(" VALUES (")?;
        let end = closing(rest)?;
        let (values, tail) = (&rest[..end], &rest[end + 1..]);
        if tail.contains('$') {
            return None;
        }
        let columns = head.split_once('(')?.1.strip_suffix(')')?.split(',').map(str::trim);
        let named: Vec<_> = columns.zip(apart(values)).collect();
        let parameter = |column: &str| {
            let value = named.iter().find(|(name, _)| *name == column)?.1;
            value.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
        };
        let returned = tail
            .split_once("RETURNING ")
            .map(|(_, columns)| columns.split(',').map(|column| parameter(column.trim())).collect());
        let numbers = values.split('$').skip(1).filter_map(|rest| {
            let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse::<usize>().ok()
        });
        let parameters = numbers.max()?;
        Some(Self {
            head: head.to_owned(),
            values: values.to_owned(),
            tail: tail.to_owned(),
            parameters,
            returned,
        })
    }

    /// The statement for any number of rows: each parameter is an array. `kinds`: the type of each.
    pub(super) fn many(&self, kinds: &[&str]) -> String {
        let arrays: Vec<_> =
            kinds.iter().zip(1..).map(|(kind, number)| format!("${number}::{kind}[]")).collect();
        let names: Vec<_> = (1..=self.parameters).map(|number| format!("p{number}")).collect();
        let values = self.values.replace('$', "v.p");
        let (head, tail) = (&self.head, &self.tail);
        format!(
            "INSERT INTO {head} SELECT {values} FROM unnest({}) AS v ({}){tail}",
            arrays.join(", "),
            names.join(", ")
        )
    }

    /// The parameters that are the row it gives back, where it gives none that was there before, and nothing but parameters.
    pub(super) fn row(self) -> Option<Vec<usize>> {
        if self.tail.contains("DO UPDATE") { None } else { self.returned?.into_iter().collect() }
    }

    /// Where it inserts.
    fn table(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// How many parameters it has.
    pub(super) fn parameters(&self) -> usize {
        self.parameters
    }

    /// The rows that came back, for the statement that each belongs to. Of two that are alike the first one was inserted.
    pub(super) fn share_out(
        &self,
        rows: Vec<Row>,
        statements: &[&Statement],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        let Some(returned) = &self.returned else { return Ok(vec![Vec::new(); statements.len()]) };
        let known = |row: &Row, statement: &Statement| {
            let mut pairs = returned.iter().zip(&row.0).filter_map(|(place, value)| Some(((*place)?, value)));
            pairs.all(|(place, value)| statement.1.get(place) == Some(value))
        };
        let mut rows = VecDeque::from(rows);
        let shared = statements.iter().map(|statement| {
            // In their order, but for those that were not inserted.
            let place = rows.iter().position(|row| known(row, statement));
            place.and_then(|place| rows.remove(place)).into_iter().collect()
        });
        let shared = shared.collect();
        if rows.is_empty() {
            return Ok(shared);
        }
        Err(StoreError::Corrupt { what: format!("{} rows came back that nobody inserted", rows.len()) })
    }
}

/// Inserts of the same kind come together, at the place of the first one. All other statements stay alone and in their order,
/// and none that changes or deletes rows of a table is overtaken by an insert into it.
pub(super) fn together<'a>(
    statements: &[Statement],
    insert: impl Fn(&'static str) -> Option<&'a Insert>,
) -> Vec<Vec<usize>> {
    let mut found: Vec<Vec<usize>> = Vec::new();
    let mut open: HashMap<&'static str, usize> = HashMap::new();
    for (place, (sql, _)) in statements.iter().enumerate() {
        if insert(sql).is_none() {
            if !sql.starts_with("INSERT") {
                open.retain(|kind, _| insert(kind).is_some_and(|insert| !sql.contains(insert.table())));
            }
            found.push(vec![place]);
        } else if let Some(group) = open.get(sql) {
            found[*group].push(place);
        } else {
            open.insert(sql, found.len());
            found.push(vec![place]);
        }
    }
    found
}

/// The parameter of a place, of all rows.
pub(super) fn column<'a>(statements: &[&'a Statement], place: usize) -> Vec<&'a Value> {
    statements.iter().filter_map(|(_, parameters)| parameters.get(place)).collect()
}

/// Where the bracket closes that was opened before.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (place, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => return Some(place),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The values of a list; commas inside brackets do not count.
fn apart(list: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (place, letter) in list.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(list[from..place].trim());
                from = place + 1;
            }
            _ => {}
        }
    }
    found.push(list[from..].trim());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "INSERT INTO jobs (id, image_id, units) VALUES ($1, (SELECT id FROM images WHERE sha = $3 AND n = $12), \
                       $2) RETURNING id, image_id";
    const KEY: &str =
        "INSERT INTO keys (hash, job_id) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING RETURNING job_id";

    fn row(values: &[&str]) -> Row {
        Row(values.iter().map(|value| (*value).into()).collect())
    }

    fn key(hash: &str, job: &str) -> Statement {
        (KEY, vec![hash.into(), job.into()])
    }

    #[test]
    fn the_row_is_known_where_it_is_made_of_parameters_and_was_not_there_before() {
        let known = |sql: &str| Insert::of(sql).expect("an insert of one row").row();
        let insert = "INSERT INTO keys (hash, job_id, at) VALUES ($2, $1, $3)";
        assert_eq!(known(&format!("{insert} ON CONFLICT DO NOTHING RETURNING job_id, at")), Some(vec![0, 2]));
        assert_eq!(known(insert), None, "it gives none back");
        assert_eq!(known(&format!("{insert} ON CONFLICT DO UPDATE SET at = 0 RETURNING at")), None);
        assert_eq!(known("INSERT INTO a (b) VALUES ((SELECT c FROM d WHERE e = $1)) RETURNING b"), None);
    }

    #[test]
    fn an_insert_of_parameters_takes_arrays() {
        let insert = Insert::of(KEY).unwrap();
        assert_eq!(
            insert.many(&["bytea", "text"]),
            "INSERT INTO keys (hash, job_id) SELECT v.p1, v.p2 FROM unnest($1::bytea[], $2::text[]) AS v (p1, p2) \
             ON CONFLICT (hash) DO NOTHING RETURNING job_id"
        );
        let insert = Insert::of(JOB).unwrap();
        assert_eq!(insert.table(), "jobs");
        assert!(
            insert
                .many(&[])
                .contains("SELECT v.p1, (SELECT id FROM images WHERE sha = v.p3 AND n = v.p12), v.p2 FROM")
        );
        for other in [
            "INSERT INTO a (b) SELECT c FROM d WHERE e = $1",
            "INSERT INTO a (b) VALUES ($1) ON CONFLICT (b) DO UPDATE SET b = $1",
            "UPDATE a SET b = $1",
        ] {
            assert_eq!(Insert::of(other), None, "{other}");
        }
    }

    #[test]
    fn rows_go_to_whoever_inserted_them_the_first_of_two_alike() {
        let insert = Insert::of(KEY).unwrap();
        let statements = [key("a", "job1"), key("a", "job2"), key("b", "job3"), key("c", "job3")];
        let statements: Vec<_> = statements.iter().collect();
        let shared = insert.share_out(vec![row(&["job1"]), row(&["job3"])], &statements).unwrap();
        assert_eq!(shared, [vec![row(&["job1"])], vec![], vec![row(&["job3"])], vec![]]);
        assert!(insert.share_out(vec![row(&["job9"])], &statements).is_err());
        let silent = Insert::of("INSERT INTO a (b) VALUES ($1)").unwrap();
        assert_eq!(silent.share_out(Vec::new(), &statements).unwrap(), vec![Vec::new(); 4]);
    }

    #[test]
    fn inserts_of_a_kind_go_together_and_overtake_no_deletion_in_their_table() {
        let inserts = HashMap::from([(KEY, Insert::of(KEY).unwrap()), (JOB, Insert::of(JOB).unwrap())]);
        let plan = |sqls: &[&'static str]| {
            let statements: Vec<Statement> = sqls.iter().map(|sql| (*sql, Vec::new())).collect();
            together(&statements, |sql| inserts.get(sql))
        };
        assert_eq!(plan(&[KEY, JOB, KEY, JOB]), [vec![0, 2], vec![1, 3]]);
        let (forget, other) = ("DELETE FROM keys WHERE hash = $1", "UPDATE steps SET n = 1");
        assert_eq!(plan(&[KEY, forget, KEY, KEY]), [vec![0], vec![1], vec![2, 3]]);
        assert_eq!(plan(&[KEY, other, KEY, other]), [vec![0, 2], vec![1], vec![3]]);
    }
}
