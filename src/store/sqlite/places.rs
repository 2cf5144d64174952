//! Cells of the Earth: a circle becomes a few of them, each a sorted range of devices.

use super::session::{Session, Sql, int, json};
use crate::delivery::expression::Circle;

/// The grids: cells of so many degrees. The last one is one cell, the world.
const GRIDS: [f64; 4] = [0.05, 0.5, 5.0, 360.0];
/// Most cells of a circle: each is a stream of its own.
const MOST_CELLS: i64 = 32;

/// The cell of a grid that a row and a column name.
fn number(grid: usize, row: i64, column: i64) -> i64 {
    ((grid as i64) << 32) | (row << 16) | column
}

/// The row or column of a coordinate, counted from the edge of the map.
fn line(degrees: f64, edge: f64, size: f64) -> i64 {
    ((degrees + edge) / size).floor() as i64
}

/// The cells of a point, one of each grid.
pub(super) fn cells(lat: f64, lon: f64) -> [i64; GRIDS.len()] {
    let mut grid = 0;
    GRIDS.map(|size| {
        let cell = number(grid, line(lat, 90.0, size), line(lon, 180.0, size));
        grid += 1;
        cell
    })
}

/// The cells that a circle touches: of the finest grid of which these are not too many.
pub(super) fn of_circle(circle: &Circle) -> Vec<i64> {
    let (north, east) = circle.reach();
    let (south, north) = ((circle.lat - north).max(-90.0), (circle.lat + north).min(90.0));
    // Over the edge of the map it goes on at the other one. A point at 180° is in a column of its own, and the same as
    // one at -180°.
    let (west, east) = (circle.lon - east, circle.lon + east);
    let mut spans = vec![(west.max(-180.0), east.min(180.0))];
    if west <= -180.0 {
        spans.push(((west + 360.0).max(-180.0), 180.0));
    }
    if east >= 180.0 {
        spans.push((-180.0, (east - 360.0).min(180.0)));
    }
    for (grid, size) in GRIDS.into_iter().enumerate() {
        let rows = line(south, 90.0, size)..=line(north, 90.0, size);
        let columns: Vec<_> =
            spans.iter().map(|(west, east)| line(*west, 180.0, size)..=line(*east, 180.0, size)).collect();
        let wide: i64 = columns.iter().map(|span| span.end() - span.start() + 1).sum();
        if wide * (rows.end() - rows.start() + 1) > MOST_CELLS && grid + 1 < GRIDS.len() {
            continue;
        }
        let mut cells: Vec<_> = rows
            .flat_map(|row| columns.iter().cloned().flatten().map(move |column| (row, column)))
            .map(|(row, column)| number(grid, row, column))
            .collect();
        cells.sort_unstable();
        cells.dedup();
        return cells;
    }
    Vec::new()
}

/// Where a device was and is: `None` is nowhere.
pub(super) type Move = (u64, Option<(f64, f64)>, Option<(f64, f64)>);

/// Moves devices.
pub(super) async fn write(session: &mut Session, app: i64, moves: &[Move]) -> Sql<()> {
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    for (device, old, new) in moves.iter().filter(|(_, old, new)| old != new) {
        gone.extend(old.iter().flat_map(|(lat, lon)| cells(*lat, *lon)).map(|cell| (cell, *device)));
        come.extend(
            new.iter().flat_map(|(lat, lon)| cells(*lat, *lon).map(|cell| (cell, *device, *lat, *lon))),
        );
    }
    if !gone.is_empty() {
        let query = sqlx::query(
            "DELETE FROM device_places WHERE (app, cell, device) IN
                (SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2))",
        );
        session.run(query.bind(app).bind(json(&gone))).await?;
    }
    let head = "INSERT INTO device_places (app, cell, device, lat, lon) ";
    session
        .write_rows(head, "", &come, |row, (cell, device, lat, lon)| {
            row.push_bind(app).push_bind(*cell).push_bind(int(*device)).push_bind(*lat).push_bind(*lon);
        })
        .await
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    #[test]
    fn every_point_of_a_circle_is_in_one_of_its_few_cells() {
        let mut chance = StdRng::seed_from_u64(11);
        for round in 0..20_000 {
            let lat = [0.0, 89.95, -90.0, 90.0, chance.random_range(-90.0..=90.0)][round % 5];
            let lon = [180.0, -180.0, 179.99, chance.random_range(-180.0..=180.0)][round % 4];
            let radius_km = 10_f64.powf(chance.random_range(-1.0..4.3));
            let circle = Circle { lat, lon, radius_km };
            let found = of_circle(&circle);
            assert!(!found.is_empty() && found.len() <= 32, "{circle:?}: {}", found.len());
            for _ in 0..5 {
                let spread = radius_km / 111.0;
                let to = (lat + chance.random_range(-spread..=spread)).clamp(-90.0, 90.0);
                let mut along =
                    lon + chance.random_range(-spread..=spread) / to.to_radians().cos().abs().max(0.01);
                along = (along + 540.0).rem_euclid(360.0) - 180.0;
                if circle.holds(to, along) {
                    assert!(
                        cells(to, along).iter().any(|cell| found.contains(cell)),
                        "{circle:?} {to} {along}"
                    );
                }
            }
        }
    }
}
