//! Devices: what the user is logged in on.

mod delete_device;
mod delete_devices;
mod get_device;
mod get_devices;
mod update_device;

use koine_account::Device;
use ruma_client_api::device as ruma;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_devices::v3::Request, _, _>("matrix.device.get_devices", get_devices::get_devices);
    endpoints.add::<ruma::get_device::v3::Request, _, _>("matrix.device.get_device", get_device::get_device);
    endpoints
        .add::<ruma::update_device::v3::Request, _, _>("matrix.device.update_device", update_device::update_device);
    endpoints
        .add::<ruma::delete_device::v3::Request, _, _>("matrix.device.delete_device", delete_device::delete_device);
    endpoints
        .add::<ruma::delete_devices::v3::Request, _, _>("matrix.device.delete_devices", delete_devices::delete_devices);
}

fn as_ruma(device: Device) -> ruma::Device {
    let mut answer = ruma::Device::new(device.device_id);
    answer.display_name = device.display_name;
    answer.last_seen_ip = device.last_seen_ip;
    answer.last_seen_ts = Some(device.last_seen);
    answer
}
