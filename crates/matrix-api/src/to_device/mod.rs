//! Messages from device to device. [CS-API §send-to-device-messaging] They come out of `/sync`.

mod send_to_device;

use ruma_client_api::to_device::send_event_to_device::v3;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<v3::Request, _, _>("matrix.to_device.send", send_to_device::send_to_device);
}
