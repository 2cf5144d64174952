//! Sets of devices: one syntax tree, from the call to the store.
//!
//! The API checks it and bounds its cost; a store turns it into streams of devices in order of number.

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// A set of devices of one app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expression {
    /// Every device of the app.
    All,
    /// Devices with this tag.
    Tag(String),
    /// Devices whose attribute passes a test. One that lacks it passes none.
    Attr {
        /// Its name; with [`crate::store::FIELD`] before it, a field of the device.
        name: String,
        /// What is asked of its value.
        test: Test,
    },
    /// Devices that were last in a circle.
    Near(Circle),
    /// Devices of these users. Only from `to.user_ids`.
    Users(Vec<String>),
    /// What is in all of these.
    And(Vec<Expression>),
    /// What is in any of these.
    Or(Vec<Expression>),
    /// What of the app is not in this.
    Not(Box<Expression>),
}

/// What is asked of a value. Values of different types are never equal and never in an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// It is there.
    Exists,
    /// It is one of these.
    OneOf(Vec<Scalar>),
    /// It lies between these, which are both numbers or both texts; at least one is there.
    Between {
        /// From here on.
        low: Option<Bound>,
        /// Up to here.
        high: Option<Bound>,
    },
    /// It is a text that begins so.
    StartsWith(String),
}

/// One end of a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Where.
    pub value: Scalar,
    /// Whether the value itself is in it.
    pub inclusive: bool,
}

/// A value that attributes have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
}

/// The mean radius of the Earth in kilometres.
const EARTH_KM: f64 = 6371.0088;

/// Everything at most this far from a point, on a sphere.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Circle {
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// Kilometres.
    pub radius_km: f64,
}

impl Circle {
    /// Whether a point is in it.
    pub fn holds(&self, lat: f64, lon: f64) -> bool {
        let half = |a: f64, b: f64| ((a - b).to_radians() / 2.0).sin().powi(2);
        let across = self.lat.to_radians().cos() * lat.to_radians().cos();
        let haversine = half(lat, self.lat) + across * half(lon, self.lon);
        2.0 * EARTH_KM * haversine.min(1.0).sqrt().asin() <= self.radius_km
    }

    /// How many degrees north and south of the middle, and east and west of it, it reaches at the most. A circle around
    /// a pole reaches everywhere east and west.
    pub fn reach(&self) -> (f64, f64) {
        // A little more than exact: rounding must not cut anybody off.
        let angle = (self.radius_km / EARTH_KM * 1.000_001).min(std::f64::consts::PI);
        let north = angle.to_degrees() + 1e-9;
        let spare = std::f64::consts::FRAC_PI_2 - self.lat.abs().to_radians();
        if angle >= spare {
            return (north, 180.0);
        }
        (north, (angle.sin() / spare.sin()).min(1.0).asin().to_degrees() + 1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_an_atlas() {
        // Shanghai to Beijing 1067 km, over the date line 222 km, pole to pole half the world.
        let cases = [
            ((31.2304, 121.4737), (39.9042, 116.4074), 1067.0),
            ((0.0, 179.0), (0.0, -179.0), 222.4),
            ((90.0, 0.0), (-90.0, 77.0), 20_015.0),
            ((10.0, 10.0), (10.0, 10.0), 0.0),
        ];
        for ((lat, lon), to, km) in cases {
            let circle = |radius_km: f64| Circle { lat, lon, radius_km };
            assert!(circle(km * 1.002 + 0.001).holds(to.0, to.1), "{km} is far enough");
            assert!(km == 0.0 || !circle(km * 0.998).holds(to.0, to.1), "{km} is needed");
        }
    }

    #[test]
    fn a_circle_reaches_no_further_than_it_says() {
        for lat in [-89.0, -45.0, 0.0, 31.2, 60.0, 89.9] {
            for radius_km in [0.1, 5.0, 300.0, 6000.0, 20_000.0] {
                let circle = Circle { lat, lon: 170.0, radius_km };
                let (north, east) = circle.reach();
                for step in 0..360 {
                    let bearing = f64::from(step).to_radians();
                    let angle = radius_km / EARTH_KM * 0.999;
                    let (sin, cos) = (lat.to_radians().sin(), lat.to_radians().cos());
                    let to = (sin * angle.cos() + cos * angle.sin() * bearing.cos()).asin();
                    let along = (bearing.sin() * angle.sin() * cos).atan2(angle.cos() - sin * to.sin());
                    assert!(circle.holds(to.to_degrees(), 170.0 + along.to_degrees()));
                    assert!((to.to_degrees() - lat).abs() <= north, "{circle:?}");
                    assert!(along.to_degrees().abs() <= east, "{circle:?} {step}");
                }
            }
        }
    }
}
