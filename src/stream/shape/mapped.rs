//! The shape of a mapped table: green's statements come from the mapping, over the cells that blue sends.

use super::{FollowTable, From, Locate, Shape, Target, Written, fires, locate};
use crate::error::{Error, Kind, Result};
use crate::mapping::{Fitted, Image, Mapping, Parameters, as_error};
use crate::pg::target;
use crate::stream::pgoutput::{Identity, Relation};
use tokio_postgres::Client;

/// A mapping, and where its sources are among blue's columns.
#[derive(Debug, Clone)]
pub(in crate::stream) struct Mapped {
    pub fitted: Fitted,
    pub sources: Vec<usize>,
}

/// Matches blue's table with green's.
pub(super) async fn resolve(
    client: &Client,
    relation: Relation,
    table: &FollowTable,
    mapping: &Mapping,
) -> Result<Shape> {
    let green = target::read(client, &table.green).await?;
    let fitted = mapping.fit(&green).map_err(|problems| as_error(&table.blue, &problems))?;
    let place = |name: &str| relation.columns.iter().position(|column| column.name == name);
    let sources: Option<Vec<usize>> =
        fitted.sources.iter().map(|source| place(source.name.as_str())).collect();
    let locate = locate(&relation, &table.key);
    let same_identity = fitted.tells_all == (relation.identity == Identity::Full);
    let (Some(sources), Locate::Key(_), true) = (sources, &locate, same_identity) else {
        return Err(Error::new(
            Kind::Gate,
            format!(
                "columns or the replica identity of {} are not what they were on blue",
                table.blue.plain()
            ),
        )
        .hint("Its mapping rests on them. Take the change on blue back, or start from a fresh copy."));
    };
    let target = |at: usize| if sources.contains(&at) { Target::Write } else { Target::Unwritten };
    let fires = fires(client, &table.green).await?;
    Ok(Shape {
        green: table.green.clone(),
        targets: (0..relation.columns.len()).map(target).collect(),
        types: Vec::new(),
        own: Vec::new(),
        locate,
        only_row_by_row: fires.then_some(super::FIRES),
        moves_whole: fitted.covers_green && fitted.outputs.iter().all(|output| !output.identity_always),
        relation,
        mapped: Some(Mapped { fitted, sources }),
        part: 0,
        sharing: 1,
        joined: false,
    })
}

impl Mapped {
    pub fn insert(&self, rows: usize) -> String {
        let width = self.sources.len();
        self.fitted.insert(rows, &mut |row, at| format!("${}", row * width + at + 1))
    }

    pub fn update(&self, unchanged: &[bool]) -> Written {
        let outputs = self.outputs(unchanged);
        self.with_parameters(|cells| self.fitted.update(&outputs, cells))
    }

    pub fn delete(&self) -> Written {
        self.with_parameters(|cells| self.fitted.delete(cells))
    }

    /// The outputs that can be computed when these of blue's cells were not sent.
    pub fn outputs(&self, unchanged: &[bool]) -> Vec<usize> {
        self.fitted.outputs_after(|source| !unchanged[self.sources[source]])
    }

    fn with_parameters(
        &self,
        write: impl FnOnce(&mut dyn FnMut(Image, usize) -> String) -> String,
    ) -> Written {
        let mut parameters = Parameters::default();
        let sql = write(&mut |image, at| parameters.place(image, at));
        let from = |(image, at): &(Image, usize)| match image {
            Image::Before => From::Old(self.sources[*at]),
            Image::After => From::New(self.sources[*at]),
        };
        Written { sql, parameters: parameters.0.iter().map(from).collect() }
    }
}
